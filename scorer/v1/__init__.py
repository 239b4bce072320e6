"""Generated from ``proto/scorer/v1/scorer.proto`` by ``make stubs``; never edited by hand."""

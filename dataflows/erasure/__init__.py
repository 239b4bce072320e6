"""Forgets an entity: removes what is stored of it, and leaves a tombstone that runs honour."""

"""The `headwater` command: thin verbs over the rest."""

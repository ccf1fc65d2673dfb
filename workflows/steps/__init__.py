"""The work of a workflow, one file a step; ``reconcile-step NAME`` runs one (see main.py for the list)."""

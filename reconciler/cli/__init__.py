"""The command `reconcile`, one file a command. Nothing else in this package's neighbours prints or exits."""

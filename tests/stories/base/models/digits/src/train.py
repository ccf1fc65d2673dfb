"""Stands for the model's code: only its Git tree counts here."""

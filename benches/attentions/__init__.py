"""Measurements of linear attention: what is run, how, and the tables made of it."""

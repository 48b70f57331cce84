"""Stands for a program of a user; never started."""

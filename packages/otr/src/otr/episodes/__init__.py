"""Datasets as labellers see them: demonstrations, vectors to compare, true rewards."""

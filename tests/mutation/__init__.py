"""Mutation testing: would the suite notice if a line said something else?"""

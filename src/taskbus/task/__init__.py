"""The bus' own tasks; ``taskbus.model.builtin`` says which there are.

Each module is imported where its task is wanted. Standard library only: the forker imports them.
"""

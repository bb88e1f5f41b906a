"""The bus' own tasks, which run in a worker's child like all others. Standard library only."""

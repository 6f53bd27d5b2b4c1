"""What can still be placed, by Placement's formulas: claims, inventories, and how many guests fit."""

"""What can still be placed, by Placement's arithmetic: claims, inventories, and how many guests fit."""

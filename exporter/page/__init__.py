"""What people look at: one record of the fleet, which the page, the terminal's table and JSON all show."""

"""The coverage table of packages: networks as users get and write them, and what of them is explained."""

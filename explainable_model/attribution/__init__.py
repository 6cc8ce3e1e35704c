"""The one procedure that explains, whatever the network is: a module with hooks or a traced graph."""

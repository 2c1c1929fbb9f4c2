"""`crease`: a client of the services, and the process tree that runs all of them on a laptop."""

"""Work that outlives the screen: a job is a folder and a process of its own."""

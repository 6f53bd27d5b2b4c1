"""What strangers write, thrown at what reads it: domain XML, images, files, HTTP."""

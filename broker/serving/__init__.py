"""The web server and the internal listener: sockets on one side, WSGI on the other."""

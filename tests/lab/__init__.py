"""The lab: three nodes and a tang box as virtual machines on this computer, driven as a person would drive them.

It opens nothing to the network (everything is on loopback or a unix socket), keeps nothing in the repository, ends no
process that it did not start itself, and does nothing to a node that README.md does not tell its readers to do.
"""

"""What is sent between the page and the server; OpenAPI and the page's types are made from it.

A small page keeps its messages in its routes module.
"""

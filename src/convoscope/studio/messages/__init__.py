"""What is sent between the page and the server, from which OpenAPI and the page's types are made. A small page keeps its
messages in its routes module.
"""

"""What travels between the page and the server, one module a page; the OpenAPI description and the page's types are made from it."""

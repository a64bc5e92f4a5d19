"""What is sent between the page and the server, one module for each page. OpenAPI and the page's types follow from it."""

"""The routes: one module a page, each with one `router`."""

"""Web pages that need no server and no network: one style, one set of templates, everything from files escaped."""

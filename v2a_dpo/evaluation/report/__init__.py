"""The report: one HTML file with everything inside, for a browser, a phone or an attachment."""

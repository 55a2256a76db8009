"""Reading: scans, filters, lists and watches."""

"""`acl bench`: how fast a bundle is here, beside the published pipeline, with the parity of each row."""

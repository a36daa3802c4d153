"""What commands write: tables, JSON and figures. The only room that leans on the lab."""

"""Show findings: files, tables, figures, the report. No science lives here."""

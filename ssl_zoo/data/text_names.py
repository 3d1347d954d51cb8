"""By their suffixes: files of running text, of one document each, and of sequences of symbols."""

RUNNING = (".log", ".text", ".txt")
NOTES = (".adoc", ".md", ".org", ".rst", ".tex")
COMPILED = (".c", ".cc", ".cpp", ".cs", ".go", ".h", ".hpp", ".hs", ".java", ".kt", ".ml", ".rs", ".swift")
SCRIPTS = (".js", ".jsx", ".lua", ".php", ".pl", ".py", ".r", ".rb", ".scala", ".sh", ".sql", ".ts", ".tsx")
WHOLE = (*NOTES, *COMPILED, *SCRIPTS)  # one document a file
FASTA = (".fa", ".faa", ".fasta", ".ffn", ".fna", ".frn")

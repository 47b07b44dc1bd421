package store

// LimitTokens replaces the limit of stored tokens by bytes.
func (f *File) LimitTokens(bytes int64) { f.maxTokenBytes = bytes }

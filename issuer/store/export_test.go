package store

// LimitTokens bounds the stored tokens by so many bytes in place of tokenSpace.
func (f *File) LimitTokens(bytes int64) { f.space = bytes }

// Package data turns text into batches of tokens: it walks a source, writes token
// shards, and samples windows from them so that a batch is a pure function of
// (seed, worker, step).
//
// # Shard file
//
// A shard is one split of a corpus, every document followed by the tokenizer's
// separator. All integers are little endian.
//
//	offset  bytes  field
//	0       8      magic, "locoshrd"
//	8       4      version, 1
//	12      4      bytes of a token: 1, 2 or 4
//	16      4      vocabulary size, 1 to 2^31 − 1, at most 256^(bytes of a token)
//	20      4      reserved, 0
//	24      8      number of tokens, at most 2^48
//	32      4      CRC-32C of the tokens' bytes
//	36      4      CRC-32C of bytes 0 to 35
//	40      ...    the tokens, unsigned
//
// Nothing follows the tokens. Every token is below the vocabulary size.
//
// # Files in a data folder
//
// Prepare writes DIGEST.train.shard and DIGEST.heldout.shard, DIGEST being the
// first 32 hexadecimal digits of the data's digest, and KEY.json, which remembers the result
// for a source whose file names, sizes and modification times are unchanged. Every
// file is complete or absent: it is written under a temporary name, synced, and
// renamed, so that several processes may prepare one folder at once.
package data

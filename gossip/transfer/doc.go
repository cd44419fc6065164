// Package transfer is the logic of fetching a run's state from several members at
// once: what is offered and asked for ([Manifest], [Answer], [Ask], [Take], [Get]), whose
// word counts ([Agree]), which chunk is asked of whom ([Plan]) and how fast a source
// gives ([Bucket]). It holds no stream, clock or goroutine: times go in as arguments.
// loco/gossip is the shell around it; docs/protocol.md, "Joining", has the whole.
//
// # Wire format
//
// A joiner opens a stream and writes requests, the source answers each in its order.
// Everything is a frame, little-endian:
//
//	1  type
//	4  bytes of payload
//	   payload
//	4  CRC-32C of everything before
//
// The first frame of a stream follows the magic "locoST02". Payloads:
//
//	1 Ask       flags {coming}
//	2 Answer    flags {ready}, round, step, tokens (binary64), digest, oldest, held round,
//	            held manifest, 2 bytes: marks, each round and digest, ascending
//	3 Take      kind, flags {exact}, round, digest
//	4 Manifest  as [Manifest.Append] has it
//	5 Get       ID of a manifest, 4 bytes: chunk
//	6 Chunk     4 bytes: chunk, then its bytes
//	7 Refuse    text of at most 256 bytes
//
// Rounds and steps have 8 bytes, hashes and digests 32. An ID is the SHA-256 of a
// manifest.
package transfer

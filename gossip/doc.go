// Package gossip averages a flat vector over the workers of one round.
//
// [AllReduce] averages over everybody (DiLoCo, arXiv 2311.08105, Algorithm 1, line
// 12), [Pairs] over random pairs (NoLoCo, arXiv 2506.10911, section 3). What decides is
// in the state machines of loco/gossip/protocol, which have no clock, socket or
// goroutine; this package is the shell around them that reads, writes, encodes and adds.
//
// # Rounds and pairs
//
// docs/protocol.md has the messages, the states and the invariants of both, and the frame
// of 52 bytes in which everything but a state crosses, on streams that stay open from
// round to round. A pair forms
//
//	(wᵢ·xᵢ + wⱼ·xⱼ) / (wᵢ + wⱼ)
//
// from the decoded bytes of both, their own too, in ascending worker order, so that they
// hold the same mean to the bit. Data frames carry the codec's bytes of the values
// [lo + 65536·chunk, …) of a shard whose first value is lo. A frame that breaks a rule
// ends its stream; its sender is named in the log and in [Outcome].Rejected, and the
// attempt goes on without it.
//
// # State
//
// A joiner opens a stream and writes one byte. The answer, little-endian:
//
//	8   magic "locoST01"
//	8   round
//	8   step
//	32  digest
//	4   bytes of meta, at most 64 MiB
//	4   vectors, at most 4096
//	    for each: 2 bytes of length, name (at most 256 bytes), 8 bytes: values
//	4   CRC-32C of everything before
//	    meta, then the vectors as binary32, each cut in chunks of at most 262144
//	    bytes that are followed by their CRC-32C
//	32  SHA-256 of everything before
//
// # Differences from the papers
//
// DiLoCo and NoLoCo assume that everybody takes part in every round. Weights here are
// the tokens that a worker trained, and an absent worker is left out of the divisor.
package gossip

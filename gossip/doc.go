// Package gossip averages a flat vector over the workers of one round.
//
// [AllReduce] averages over everybody (DiLoCo, arXiv 2311.08105, Algorithm 1, line
// 12), [Pairs] over random pairs (NoLoCo, arXiv 2506.10911, section 3). What decides is
// in the state machines of loco/gossip/protocol, which have no clock, socket or
// goroutine; this package is the shell around them that reads, writes, encodes and adds.
//
// # Rounds of an all-reduce
//
// A worker that calls Average sends Ready to everybody: round, digest of the state it
// starts from, weight, length. Everybody thus knows who is ready, and any of them can
// coordinate. A group can be closed when every live, ready, not done member has sent
// its Ready, or Grace after half of them have (this worker counted). Its
// coordinator, the lowest worker number among those ready, then sends Group: the
// members that start from the majority's state (ties: its own) and the attempt's
// number. The others are told Behind. A worker that hears of no group within twice
// Grace passes the coordinator over.
//
// Attempts are numbered try·65536 + (65535 − coordinator), so that two coordinators
// never use the same number and a worker that hears of two groups follows one rule:
// the larger number wins.
//
// In an attempt each member owns a shard, sends every other owner that owner's shard
// of its vector, and receives every other shard's mean. A member that holds all sends
// Done with the hash of the result to the coordinator; when all have, and the hashes
// agree, the coordinator has committed the round, and says so to everybody: Commit.
// The encoded bytes of the mean are what counts, so replicas are equal to the bit. A
// group of one goes through the codec too, so that it leaves the bytes that a late
// member of the same lineage can adopt.
//
// A member that is lost, silent or sends what it must not ends the attempt: whoever
// sees it tells everybody Failed, everybody says Ready again, and the lowest worker
// left closes a smaller group. Ready names the complete result that its sender holds,
// if any; a group one of whose members holds one adopts it instead of averaging anew,
// and the divisor stays the weights that are in it. A worker that holds a complete
// result enters no group that does not adopt it. That makes it safe: Commit needs
// everyone's Done, so if anybody committed an attempt, every member holds its bytes.
//
// A worker that comes late, or was left out, hears Commit and downloads the committed
// bytes from whoever said so, if it started from the same state. It is not among the
// members then, and its vector is lost. Otherwise it is Behind and must fetch the
// state. After Deadline, or 16 attempts, Average returns an error.
//
// # Pairs
//
// Partners are drawn by [Match] from the seed and the round. The lower worker number
// offers, the other accepts, both send their encoded vector, and both form
//
//	(wᵢ·xᵢ + wⱼ·xⱼ) / (wᵢ + wⱼ)
//
// from the decoded bytes of both, their own too, in ascending worker order, so that
// they hold the same mean to the bit. A worker whose partner is lost, refuses or is
// silent for Grace tells everybody that it is lonely; of two lonely workers the lower
// offers. At the Deadline it goes on alone, its vector as it was.
//
// # Frames
//
// Everything but a state crosses as frames on streams that stay open from round to
// round. A frame is a header of 48 bytes, little-endian, and a payload:
//
//	offset  0  4  magic "loco"
//	offset  4  1  version, 1
//	offset  5  1  type
//	offset  6  1  part: 0 delta, 1 slow
//	offset  7  1  flags, 0
//	offset  8  8  round
//	offset 16  4  attempt
//	offset 20  4  shard
//	offset 24  4  chunk of the shard
//	offset 28  4  worker number of the sender, at most 65535
//	offset 32  4  values in the payload, at most 65536
//	offset 36  4  bytes of payload: at most 262144
//	offset 40  4  CRC-32C of the payload
//	offset 44  4  CRC-32C of bytes 0 to 43
//
// Types 1 to 8 and 32 to 35 are control messages, on their own stream; their payload
// is in the order of the fields of the structs in message.go: hashes 32 bytes, weights
// binary64, lengths and rounds 8 bytes, attempts and worker numbers 4, text and lists
// behind a length of 2. Types 16 (contribution), 17 (result) and 36 (pair) carry the
// codec's bytes of the values [lo + 65536·chunk, …) of a shard whose first value is
// lo. A frame that breaks a rule ends its stream; its sender is named in the log and
// in [Outcome].Rejected, and the attempt goes on without it.
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

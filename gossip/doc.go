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
// A joiner fetches φ and momentum in hashed chunks from all members that hold the same
// bits, follows the rounds that are committed meanwhile, and replays their results. What
// crosses, and what decides, is in loco/gossip/transfer, which is as pure as the protocol;
// docs/protocol.md, "Joining", has the whole. Of the files here state_serve.go is a
// source, state_log.go the results it keeps, state_fetch.go the joiner, state_gather.go
// one object from many sources, and state_partial.go what an interruption leaves.
//
// # Differences from the papers
//
// DiLoCo and NoLoCo assume that everybody takes part in every round. Weights here are
// the tokens that a worker trained, and an absent worker is left out of the divisor.
package gossip

// Package protocol decides: it holds the state machines of the all-reduce ([Rounds],
// [Ledger]) and of the pair exchange ([Pairing], [Match]), and the frames that cross the
// network. Messages, members and times go in, messages and decisions come out, as in
// etcd-io/raft; nothing here starts a goroutine, asks a clock or knows a socket, so that
// a simulation can run thousands of schedules a second and replay each.
//
// docs/protocol.md says what the messages mean, what each party may assume, and why the
// invariants hold. The package gossip is the shell: it reads, writes, encodes and adds.
package protocol

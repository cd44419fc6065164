// Package p2p is the mesh on libp2p: real hosts over TCP and QUIC that find each
// other, agree on the run they serve, and say who is alive.
//
// # Joining
//
// Each connection starts with one exchange of /loco/hello/1.0.0, a protocol that
// is the same for every run, so that two workers with different configurations
// can tell each other what differs. Only a peer that has passed it is a member:
// until then its streams wait, and they are reset if it does not pass.
//
//	dialer                               listener
//	Hello (run, own number)         ->
//	                                <-   Hello (run, own number, members known)
//	Config, if the runs differ      ->
//	                                <-   Config; both sides close the connection
//	                                <-   Verdict (accepted, or the number's holder)
//	Verdict (accepted)              ->   the dialer is a member
//
// A worker number belongs to one live member. A joiner whose number another has is told
// so by its New. Of two that join at the same time with one number the smaller ID has it.
//
// # Liveness
//
// Members publish heartbeats, with their status, on the gossip topic
// /loco/<run>/status/1.0.0, where <run> is the first 16 hex digits of the run ID. They
// probe each other, and tell each other which members are suspect, dead or have refuted
// that, by messages of members/1.0.0: streams that stay open, one in each direction between two
// members, with a length (uint16) before each message. A message that cannot be sent at once
// is dropped: a lost probe is an answer too. Any byte read from a member is a sign of life.
//
// A lost connection is dialed again at once; when every TCP address refuses, the process
// is gone and the member is suspect immediately and dead after
// Config.DeadAfterRefused. A member that was dead and lives says hello again, over the
// old connection if that stands. Each machine measures with its own monotonic clock: no
// time crosses the network. The rules and the messages are in loco/mesh/swim, which
// has neither clock nor goroutine.
//
// # Wire format
//
// Integers are little-endian. A text is its length (uint8, or as stated) and that
// many bytes of UTF-8. A message on a hello stream is a frame: payload length
// (uint32), type (uint8: 1 Hello, 2 Config, 3 Verdict), payload. Numbers of types,
// flags and codes are never used again for another meaning.
//
// Heartbeat, the payload of a gossip message, which gossipsub signs; at most 2,633
// bytes:
//
//	offset  bytes  field
//	0       1      version, 3
//	1       1      flags: 1 ready, 2 done, 4 left, 16 begun; others are refused
//	2       4      worker, below 2^20
//	6       2      lane, 0 for everybody's
//	8       8      life: orders two processes of one identity
//	16      4      refutations of this life: with it the incarnation
//	20      8      sequence: orders the heartbeats of one life
//	28      8      round
//	36      8      step
//	44      8      tokens
//	52      1      number of addresses, at most 10
//	53             addresses: texts of at most 256 bytes, length uint16
//
// Hello, at most 128 KiB:
//
//	0       4      magic "loco"
//	4       2      version of loco's protocols, 3; what follows is of this version
//	6       1      settled: 1 once its own joining is over
//	7              run ID, a text of at most 128 hex digits
//	               length of the heartbeat (uint16), heartbeat
//	               number of members (uint16), at most 1,024, each:
//	                 ID (text), number of addresses (uint8, at most 10), addresses as
//	                 in a heartbeat
//
// Config, at most 64 KiB: the canonical configuration, lines "key=value" joined by
// line feeds.
//
// Verdict, at most 1 KiB:
//
//	0       1      code: 0 accepted, 1 the number is taken, 2 refused
//	1       4      worker: the number that is taken, or 0
//	5              by: ID of the member that has it (text)
//	               reason (text, length uint16)
//
// Goodbye, the protocol goodbye/1.0.0 of a run: one heartbeat with the flag left,
// then end of stream; the other side closes when it has read it.
package p2p

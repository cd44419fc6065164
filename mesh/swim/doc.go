// Package swim decides who is in a run and who is gone: a state machine without clock,
// goroutine, lock or socket. It is told of events, each with the time since its owner
// started, and says which messages to send and whom to dial.
//
// It follows SWIM (Das, Gupta, Motivala: SWIM: Scalable Weakly-consistent
// Infection-style Process Group Membership Protocol, DSN 2002): each period of
// [Config.ProbeEvery] one member, in the order of a shuffled list, is sent a ping
// (section 4.3); if no ack comes in time, a few others are asked to ping it (section
// 3.1); if none gets an answer it is suspect, the others hear of it by rumors on the
// messages of this protocol (section 4.1), and it is dead after a while unless it
// refutes by a higher incarnation (section 4.2).
//
//	joining <-> alive     the member's own word: Status.Ready
//	either   -> suspect   a probe unanswered, a rumor, silence, refused dials, or reached
//	                      by others only
//	suspect  -> either    a sign of life; if it was refused or not reached, only by reaching it
//	suspect  -> dead      suspect for too long without a sign of life, refusing for
//	                      DeadAfterRefused, or silent for DeadAfter
//	live     -> dead      a rumor, unless it was heard within the last period
//	any      -> left      said goodbye
//	dead     -> either    passed a hello again
//	left     -> either    passed a hello in a later life
//
// A sign of life that came through others proves that the member lives, not that this
// machine can reach it. So it never brings back a dead member; its owner is told to
// dial. A member that only others reach is suspect for this machine, and never dead.
//
// # Incarnations
//
// An incarnation is a life and a counter. A restarted process has a larger life; only the
// member itself raises the counter, to refute. A rumor counts if its incarnation is at
// least the newest known. The next message to a member tells it what is said of it.
//
// # Deadlines
//
// The silence after which a member is suspect is median + 4 deviations of the times
// between its last heartbeats; an ack may take median + 4 deviations of its last round
// trips; a deviation is the median of the distances to the median. The results have
// floors and caps in [Config]. All times are of one machine's clock: none crosses the
// network. A late tick says that this process was paused: the pause does not count as
// silence of the others.
//
// # Differences from the paper
//
//   - Membership itself needs a hello, which this protocol does not do: rumors tell of
//     known members only, and a dead one is dialed before it counts again.
//   - Heartbeats that come by another way, with the status of a member, are signs of
//     life too. They clear a suspicion here at once; the others wait for the refutation.
//   - A dead member may refute: the others dial it again. The paper's dead stay dead.
//   - A member passes an accusation to the accused alone, if it has heard the accused
//     within the last period.
//   - Rumors expire by age as well as by count, so that what one side of a partition
//     believed does not flood the other after the heal.
//
// # Wire format
//
// A message, little-endian, at most [MaxMessageBytes]:
//
//	offset  bytes  field
//	0       1      kind: 1 ping, 2 ask to ping, 3 ack, 4 ack of a member that was asked
//	1       8      number of the ping that this belongs to
//	9       8      life of the sender
//	17      4      refutations of the sender
//	21             target of an ask, else empty: length (uint8, at most 128), text
//	               number of rumors (uint8, at most 64), each: kind (uint8: 1 alive,
//	               2 suspect, 3 dead, 4 left), life (8), refutations (4), ID as above
package swim

// Command bench measures edgelog, each figure beside a baseline of the same run
// where there is one, prints one table and writes it to a file for programs.
//
//	go run ./tests/bench                      # all parts; "make bench" installs what they need first
//	go run ./tests/bench -part datapath,e2e   # "make bench PART=datapath,e2e"
//
// The parts:
//
//   - datapath: what a packet costs in the kernel (BPF_PROG_TEST_RUN), beside an
//     empty program and a flow table as it is commonly built (reference/)
//   - sweep: the agent's walk through the session table
//   - parts: the agent's pieces, from their Go benchmarks
//   - e2e: new sessions a second from the wire to durable, none lost: one CPU for
//     the agent, one for the traffic; beside it what the agent does with a table
//     that is full already
//   - forward: packets a second that the gateway forwards, with edgelog, with an
//     XDP program that passes everything, with nothing
//   - idle: CPU and memory of an agent with nothing to do, and with a million
//     open sessions
//   - radius: accounting requests a second that a running agent answers durably,
//     on one CPU, beside what a write and a sync for each would give
//   - peers: the same traffic through tools that are commonly used instead
//   - answer: "edgelog who" and "edgelog access" from the command line to the
//     answer, in a store of days with a million addresses held, beside the
//     question that reads all of it
//   - store: bytes of a session on disk, beside nfdump, Parquet and the entropy
//     floor of the same sessions of a realistic day (tests/day); and what
//     questions cost in stores of 30 such days (-store-sessions), beside nfdump
//   - nat: events of conntrack a second that one core follows, beside only
//     reading them
//
// An entry of the file is {name, value, unit, vs, ratio}, one for each baseline;
// without one, vs is "". The ratio says how many times better edgelog is than
// the baseline, except beside the empty program and beside nothing attached: there
// it is edgelog's figure divided by the baseline's. Where edgelog has a goal, it
// is there with whether it was reached.
package main

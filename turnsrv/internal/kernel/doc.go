// Package kernel relays the packets of bound channels in the kernel, without waking the process.
//
// A TC program on the network interfaces replaces the addresses of these packets, and adds or removes the header of ChannelData
// (RFC 8656 sections 12.6 and 12.7). Relaying a packet costs it a fraction of what a socket costs. The program is only a cache of
// decisions of the session. A packet that it does not recognize continues to the sockets unmodified, and the session relays or
// drops it. The relay therefore works without the program, only more slowly.
//
// Path is the loaded program. A Binding becomes a Channel, which has one entry for each direction. An entry is used only if
//
//   - the process has reported recently, by Path.Beat: a process that has died or hangs leaves nothing that works;
//   - it has neither ended nor expired;
//   - the packet arrived over the interface that leads to its sender, and is addressed to this host: a forged packet is left to
//     the checks of the system;
//   - the packet is a plain one: no fragment, no several datagrams in one, no option, and a checksum that is complete;
//   - the receiver has sent something through the program: otherwise netfilter might rewrite the packets of this pair (NAT), which
//     the program would prevent;
//   - it is within the limits of the entry, and fits into the MTU of the interface, and into that of the path as far as routers have
//     reported it.
//
// Packets that the program relays do not pass netfilter: rules of nftables and iptables do not see them.
//
// Entries are used for clients over UDP, and for peers of the client's address family.
package kernel

// The compiled program is part of the repository, so that neither clang nor headers are required to build mailturn. One object
// serves all little-endian architectures.
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go@v0.22.0 -cc clang-14 -strip llvm-strip-14 -target bpfel -tags linux -type reason -type flags -no-global-types -type ends -type prefixes -type entry -type wide -type line -type control -output-stem relay object bpf/relay.c -- -O2 -mllvm -no-stack-slot-sharing -g -mcpu=v2 -Wall -Werror -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu

// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// Relays the ChannelData of bound channels in the kernel, at TC ingress: RFC 8656 sections 12.6 and 12.7. In short, a packet with the
// addresses, the ports and, from a client, the channel number of an entry (see package kernel) leaves with those that the entry
// contains, with a ChannelData header added or removed. In any other case, the packet continues unmodified to the sockets of this
// machine. The program is written for the verifier of Linux 5.15 and for a process without CAP_PERFMON, in which no pointer may
// leak.

#include <linux/types.h>

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define CHANNEL_HEADER 4
#define WAYS 8 // entries of a line
#define NOBODY 0xffffffff // the number of no entry
#define FRAGMENT_MASK 0x3fff  // more fragments, and the offset
#define OFFSET_MASK 0x1fff
#define STALE_AFTER 5000000000ULL // nanoseconds after which a process that does not beat is considered dead

// Why a packet of an entry was passed up. Package kernel has names for them.
enum reason {
	STALE,     // the process has not reported for a while
	ENDED,     // the entry ends, or has expired
	INTERFACE, // the packet came over another interface than the one that leads to its sender, or is not addressed to this host
	UNPROVEN,  // no packet has come from the receiver through this program yet
	FRAGMENT,
	OFFLOADED, // several datagrams in one buffer
	CHECKSUM,  // none, or one that the network interface would have completed
	LENGTH,    // lengths that contradict each other, or more than padding after the data
	HOPS,      // time to live
	MTU,
	LIMIT,     // more than the entry may relay
	PARTNER,   // the other caller's channel has no entry
	FAILED,    // no memory
	REASONS,
};

// What a packet has on the wire, apart from the prefixes of IPv6 addresses. channel is zero for packets of peers.
struct ends {
	__be32 source, destination; // or the last quarters
	__be16 source_port, destination_port;
	__be16 channel;
	__u16 ipv6; // 0 or 1
} __attribute__((aligned(8)));

// The first three quarters of IPv6 addresses.
struct prefixes {
	__be32 source[3], destination[3];
} __attribute__((aligned(8)));

struct key {
	struct ends ends;
	struct prefixes prefixes; // zero for IPv4
};

// A token bucket. full is when it is full again, in nanoseconds of the monotonic clock. A packet delays that by its cost, and must
// not delay it by more than burst from now. The cost is in units of 1/65536 nanoseconds for each token.
struct bucket {
	__u64 cost, burst; // no limit if cost is zero
	__u64 full;
};

enum flags {
	LIVE = 1,  // the program may use the entry
	LOCAL = 2, // the peer is another relayed address of this server
};

// An entry takes two cache lines, because with many channels, the time of a packet is that of its cache misses.
struct entry {
	struct ends key; // of arriving packets; it is compared, because the index may hand out a wrong number
	struct ends out; // what leaves: channel is zero for packets to peers. If LOCAL in an entry from a client: the key of the partner
	__u32 from, to;  // interface over which packets arrive, zero if they do not, and over which they leave
	__u32 number;    // of this entry
	__u32 reverse;   // number of the entry of the other direction
	enum flags flags; // written by the process, also while the program uses the entry
	__u16 mtu;        // of the way out, beyond the interface; the program reduces it
	__u8 seen;        // a packet has arrived
	__u8 proven;      // a packet of the other direction has
	__u64 until;      // expiry, in nanoseconds of the monotonic clock

	struct bucket bits, packets;
	__u64 relayed_packets, relayed_bytes; // bytes of application data
};

// What an entry of IPv6 has in addition.
struct wide {
	struct prefixes key, out;
};

// The entries are in lines, and this is what the index has of a line: for each entry, bits of the hash of its key, or zero if it is not
// in use. So few bytes stay in the cache of the processor, and a packet finds its entry with one cache miss.
struct line {
	__u16 tags[WAYS];
};

// The hash of a key is a sum of products of its words and secret factors. It tells two lines, in one of which the entry is. Whoever does
// not know the factors cannot choose keys for one line: each two keys have the same upper half of the sum with a probability of 2^-32.
struct control {
	__u64 alive; // when the process last reported, in nanoseconds of the monotonic clock
	__u64 lines; // their number, at most 65536
	__u64 factors[11];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 10240); // set by package kernel, as below
	__type(key, __u32);
	__type(value, struct line);
} lines SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 81920);
	__type(key, __u32);
	__type(value, struct entry);
} entries SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 81920);
	__type(key, __u32);
	__type(value, struct wide);
} wides SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct control);
} controls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, REASONS);
	__type(key, enum reason);
	__type(value, __u64);
} passed SEC(".maps");

// up passes a packet up. Other programs on the hook see it, too.
static __always_inline int up(void)
{
	return TC_ACT_UNSPEC;
}

// What writes less than eight bytes to its stack is a function of its own: relay's compiler would use the same stack for pointers,
// and the verifier forbids that without CAP_PERFMON.
static __noinline int up_for(enum reason reason)
{
	__u64 *count = bpf_map_lookup_elem(&passed, &reason);
	if (count)
		(*count)++;
	return up();
}

// Sums of 16-bit words in one's complement, RFC 1071. At most some 60 words are added, so 32 bits do not overflow.
static __always_inline __u32 add(__u32 sum, __be16 word)
{
	return sum + word;
}

static __always_inline __u32 subtract(__u32 sum, __be16 word)
{
	return sum + (__u16)~word;
}

static __always_inline __u32 add_long(__u32 sum, __be32 word)
{
	return sum + (word & 0xffff) + (word >> 16);
}

static __always_inline __u32 subtract_long(__u32 sum, __be32 word)
{
	return add_long(sum, ~word);
}

static __always_inline __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

// readdress returns the change of a sum when addresses change. The prefixes are those of IPv6.
static __noinline __u32 readdress(const struct ends *from, const struct ends *to)
{
	__u32 sum = subtract_long(subtract_long(0, from->source), from->destination);
	return add_long(add_long(sum, to->source), to->destination);
}

static __noinline __u32 readdress_prefixes(const struct prefixes *from, const struct prefixes *to)
{
	__u32 sum = 0;
#pragma unroll
	for (int i = 0; i < 3; i++) {
		sum = subtract_long(subtract_long(sum, from->source[i]), from->destination[i]);
		sum = add_long(add_long(sum, to->source[i]), to->destination[i]);
	}
	return sum;
}

// partial reports whether check is only the sum of the pseudo-header, which the interface of a sender on this machine, or on one
// beside it, would have completed. The program cannot see the difference otherwise.
static __noinline int partial(const struct key *k, __be16 length, __be16 check, int ipv6)
{
	__u32 sum = add(bpf_htons(IPPROTO_UDP), length);
	sum = add_long(add_long(sum, k->ends.source), k->ends.destination);
	if (ipv6) {
#pragma unroll
		for (int i = 0; i < 3; i++)
			sum = add_long(add_long(sum, k->prefixes.source[i]), k->prefixes.destination[i]);
	}
	return fold(sum) == check;
}

static __always_inline int same(const struct ends *a, const struct ends *b)
{
	const __u64 *x = (const __u64 *)a, *y = (const __u64 *)b;
	return !((x[0] ^ y[0]) | (x[1] ^ y[1]));
}

static __always_inline int same_prefixes(const struct prefixes *a, const struct prefixes *b)
{
	const __u64 *x = (const __u64 *)a, *y = (const __u64 *)b;
	return !((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]));
}

static __noinline struct control *controller(void)
{
	__u32 first = 0;
	return bpf_map_lookup_elem(&controls, &first);
}

static __noinline struct entry *numbered(__u32 number)
{
	return bpf_map_lookup_elem(&entries, &number);
}

static __noinline struct wide *widened(__u32 number)
{
	return bpf_map_lookup_elem(&wides, &number);
}

static __noinline struct line *placed(__u32 place)
{
	return bpf_map_lookup_elem(&lines, &place);
}

static __always_inline __u32 hash(const struct key *k, const struct control *c, int ipv6)
{
	const __u32 *words = (const __u32 *)k;
	__u64 sum = c->factors[0];
#pragma unroll
	for (int i = 0; i < 4; i++)
		sum += c->factors[1 + i] * words[i];
	if (ipv6) {
#pragma unroll
		for (int i = 4; i < 10; i++)
			sum += c->factors[1 + i] * words[i];
	}
	return sum >> 32;
}

// within returns the number of the entry in a line that has the tag, or number.
static __noinline __u32 within(__u32 place, __u16 tag, __u32 number)
{
	struct line *line = placed(place);
	if (!line)
		return number;
#pragma clang loop unroll(full)
	for (int i = 0; i < WAYS; i++) {
		if (*(volatile __u16 *)&line->tags[i] == tag)
			return place * WAYS + i;
	}
	return number;
}

// find returns the entry that the index has for a key, or a null pointer. That is always a result of the same lookup: with a constant
// null pointer, the verifier of Linux 6.1 considers what a processor might do speculatively with it, and refuses that.
static __noinline struct entry *find(const struct key *k, const struct control *c, int ipv6)
{
	__u32 h = hash(k, c, ipv6), lines = c->lines;
	__u16 tag = h >> 16 ? h >> 16 : 1;
	__u32 first = (h & 0xffff) * (__u64)lines >> 16, second = first + 1 + (tag * (__u64)(lines - 1) >> 16);
	if (second >= lines)
		second -= lines;
	return numbered(within(first, tag, within(second, tag, NOBODY)));
}

// partner returns the entry that the index has for what leaves by another one, or a null pointer. It looks for what belongs to IPv6
// itself: as an argument, that would be a constant null pointer for IPv4.
static __noinline struct entry *partner(const struct entry *e, const struct control *c, int ipv6)
{
	struct key next = {.ends = e->out};
	if (ipv6) {
		struct wide *wide = widened(e->number);
		if (wide)
			next.prefixes = wide->out;
	}
	return find(&next, c, ipv6);
}

// usable reports whether an entry may be used.
static __always_inline int usable(const struct entry *e, __u64 now)
{
	return e->flags & LIVE && now < e->until;
}

// Keys are written to the stack in words of eight bytes. The verifier of Linux 6.1 tracks the bounds of what is written there, takes
// them for a pointer, and without CAP_PERFMON forbids that parts of such a word are overwritten.
typedef __u64 __attribute__((may_alias)) word;

static __always_inline word pair(__be32 first, __be32 second)
{
	return first | (word)second << 32; // little-endian
}

// has_room reports whether a bucket has the given number of tokens. Processors that use a bucket at the same time may each see
// those of the others late: they exceed a limit by a packet, which the process, counting, takes into account.
static __always_inline int has_room(const struct bucket *b, __u64 tokens, __u64 now)
{
	__u64 full = b->full > now ? b->full : now;
	return !b->cost || full + (tokens * b->cost >> 16) <= now + b->burst;
}

static __always_inline void take(struct bucket *b, __u64 tokens, __u64 now)
{
	if (!b->cost)
		return;
	if (b->full > now)
		__sync_fetch_and_add(&b->full, tokens * b->cost >> 16);
	else
		b->full = now + (tokens * b->cost >> 16);
}

static __always_inline void count(struct entry *e, __u64 bits, __u64 bytes, __u64 now)
{
	take(&e->bits, bits, now);
	take(&e->packets, 1, now);
	__sync_fetch_and_add(&e->relayed_packets, 1);
	__sync_fetch_and_add(&e->relayed_bytes, bytes);
}

// zero reports whether up to three bytes of padding are zero, as those of all known clients. The checksum, which includes them, then
// stays right without them.
static __noinline int zero(struct __sk_buff *skb, __u32 at, __u32 length)
{
	__u8 bytes[3] = {};
	if (bpf_skb_load_bytes(skb, at, &bytes[0], 1))
		return 0;
	if (length > 1 && bpf_skb_load_bytes(skb, at + 1, &bytes[1], 1))
		return 0;
	if (length > 2 && bpf_skb_load_bytes(skb, at + 2, &bytes[2], 1))
		return 0;
	return !(bytes[0] | bytes[1] | bytes[2]);
}

// fits reports whether an IP packet fits into the MTU that an interface has now.
static __noinline int fits(struct __sk_buff *skb, __u32 interface, __u32 length)
{
	return bpf_check_mtu(skb, interface, &length, 0, 0) == 0;
}

// ICMP errors about a packet that was too long for a link on its way: RFC 1191 section 4, and RFC 4443 section 3.2. Of the packet, they
// have at least the UDP header, and usually more.
struct too_big_ipv4 {
	__u8 type, code;
	__be16 check, unused, mtu;
	struct iphdr ip;
	struct udphdr udp;
	__be16 channel, declared;
} __attribute__((aligned(8)));

struct too_big_ipv6 {
	__u8 type, code;
	__be16 check;
	__be32 mtu;
	struct ipv6hdr ip;
	struct udphdr udp;
	__be16 channel, declared;
} __attribute__((aligned(8)));

#define DESTINATION_UNREACHABLE 3 // ICMP
#define FRAGMENTATION_NEEDED 4
#define PACKET_TOO_BIG 2 // ICMPv6
#define LEAST_IPV4 576 // bytes that every host accepts, RFC 791
#define LEAST_IPV6 1280 // the MTU of every link, RFC 8200 section 5
#define CHANNEL_AT(message) __builtin_offsetof(struct message, channel)

// shorten makes longer packets of an entry go to the sockets, which know what to do with them. The key is that of the other direction.
static __noinline int shorten(const struct key *k, __u32 mtu, int ipv6)
{
	struct control *c = controller();
	struct entry *e = c ? find(k, c, ipv6) : 0;
	if (!e || !same(&e->key, &k->ends))
		return up();
	if (ipv6) {
		struct wide *wide = widened(e->number);
		if (!wide || !same_prefixes(&wide->key, &k->prefixes))
			return up();
	}
	e = numbered(e->reverse);
	if (e && mtu < e->mtu)
		e->mtu = mtu;
	return up();
}

static __noinline int too_big_ipv4(struct __sk_buff *skb)
{
	const __u32 at = ETH_HLEN + sizeof(struct iphdr);
	struct too_big_ipv4 m = {};
	struct key k = {};
	word *words = (word *)&k;
	if (skb->pkt_type != PACKET_HOST || (bpf_skb_load_bytes(skb, at, &m, CHANNEL_AT(too_big_ipv4) + CHANNEL_HEADER) &&
					     bpf_skb_load_bytes(skb, at, &m, CHANNEL_AT(too_big_ipv4))))
		return up();
	if (m.type != DESTINATION_UNREACHABLE || m.code != FRAGMENTATION_NEEDED || m.ip.ihl != 5 || m.ip.protocol != IPPROTO_UDP)
		return up();
	__u32 ports = m.udp.dest | (__u32)m.udp.source << 16, mtu = bpf_ntohs(m.mtu);
	if (mtu < LEAST_IPV4) // zero from old routers, RFC 1191 section 5, and whatever a forger likes
		mtu = LEAST_IPV4;
	words[0] = pair(m.ip.daddr, m.ip.saddr);
	words[1] = pair(ports, m.channel); // a packet to a client
	shorten(&k, mtu, 0);
	words[1] = pair(ports, 0); // or to a peer
	return shorten(&k, mtu, 0);
}

static __noinline int too_big_ipv6(struct __sk_buff *skb)
{
	const __u32 at = ETH_HLEN + sizeof(struct ipv6hdr);
	struct too_big_ipv6 m = {};
	struct key k = {};
	word *words = (word *)&k;
	if (skb->pkt_type != PACKET_HOST || (bpf_skb_load_bytes(skb, at, &m, CHANNEL_AT(too_big_ipv6) + CHANNEL_HEADER) &&
					     bpf_skb_load_bytes(skb, at, &m, CHANNEL_AT(too_big_ipv6))))
		return up();
	if (m.type != PACKET_TOO_BIG || m.ip.nexthdr != IPPROTO_UDP)
		return up();
	const __be32 *from = m.ip.daddr.s6_addr32, *to = m.ip.saddr.s6_addr32; // of the other direction
	__u32 ports = m.udp.dest | (__u32)m.udp.source << 16, mtu = bpf_ntohl(m.mtu);
	if (mtu < LEAST_IPV6)
		return up(); // RFC 8201 section 4
	words[0] = pair(from[3], to[3]);
	words[2] = pair(from[0], from[1]);
	words[3] = pair(from[2], to[0]);
	words[4] = pair(to[1], to[2]);
	words[1] = pair(ports, m.channel | 1 << 16);
	shorten(&k, mtu, 1);
	words[1] = pair(ports, 1 << 16);
	return shorten(&k, mtu, 1);
}

// ICMP is returned by relay for packets that are looked at after it has returned, because the stack has no room for both.
#define ICMP (-2)

// relay does all the work. ipv6 is a constant: there are two copies, with constant offsets.
static __always_inline int relay(struct __sk_buff *skb, const int ipv6)
{
	const __u32 ip_length = ipv6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	const __u32 at_udp = ETH_HLEN + ip_length, at_data = at_udp + sizeof(struct udphdr);
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	// What is read must be in one piece. A peer may send less than a ChannelData header is long.
	if (data + at_data + CHANNEL_HEADER > end) {
		if (skb->len >= at_data + CHANNEL_HEADER) {
			if (bpf_skb_pull_data(skb, at_data + CHANNEL_HEADER))
				return up();
		} else if (skb->len < at_data || bpf_skb_pull_data(skb, at_data)) {
			return up();
		}
		data = (void *)(long)skb->data;
		end = (void *)(long)skb->data_end;
		if (data + at_data > end)
			return up();
	}
	struct key k = {};
	word *words = (word *)&k; // the addresses' last quarters, the ports and the channel, the prefixes
	__u32 total; // length of the IP packet
	__u16 fragment = 0;
	__u8 hops;
	if (ipv6) {
		struct ipv6hdr *ip = data + ETH_HLEN;
		if (ip->nexthdr == IPPROTO_ICMPV6)
			return ICMP;
		if (ip->nexthdr != IPPROTO_UDP) // extension headers, fragments
			return up();
		words[0] = pair(ip->saddr.s6_addr32[3], ip->daddr.s6_addr32[3]);
		words[2] = pair(ip->saddr.s6_addr32[0], ip->saddr.s6_addr32[1]);
		words[3] = pair(ip->saddr.s6_addr32[2], ip->daddr.s6_addr32[0]);
		words[4] = pair(ip->daddr.s6_addr32[1], ip->daddr.s6_addr32[2]);
		total = bpf_ntohs(ip->payload_len) + sizeof(*ip);
		hops = ip->hop_limit;
	} else {
		struct iphdr *ip = data + ETH_HLEN;
		if (ip->protocol == IPPROTO_ICMP && ip->ihl == 5)
			return ICMP;
		if (ip->protocol != IPPROTO_UDP || ip->ihl != 5 || ip->version != 4 || ip->frag_off & bpf_htons(OFFSET_MASK))
			return up();
		words[0] = pair(ip->saddr, ip->daddr);
		total = bpf_ntohs(ip->tot_len);
		fragment = ip->frag_off & bpf_htons(FRAGMENT_MASK);
		hops = ip->ttl;
	}
	struct udphdr *udp = data + at_udp;
	__be16 *header = data + at_data;
	__be16 source_port = udp->source, destination_port = udp->dest;
	__u32 ports = source_port | (__u32)destination_port << 16;
	__be16 udp_length = udp->len, check = udp->check, channel = 0, declared = 0;
	int has_header = data + at_data + CHANNEL_HEADER <= end;
	struct control *c = controller();
	if (!c)
		return up();
	struct entry *e = 0;
	if (has_header) {
		channel = header[0];
		declared = header[1];
		if ((channel & bpf_htons(0xc000)) == bpf_htons(0x4000)) {
			words[1] = pair(ports, channel | (__u32)ipv6 << 16);
			e = find(&k, c, ipv6);
		}
	}
	if (!e) {
		words[1] = pair(ports, (__u32)ipv6 << 16);
		e = find(&k, c, ipv6);
		if (!e)
			return up(); // none of ours
	}
	struct wide *wide = 0, *last_wide = 0;
	if (ipv6) {
		last_wide = wide = widened(e->number);
		if (!wide)
			return up();
	}
	// Both lines of the entry are fetched at the same time. Reading the clock waits for them.
	(void)*(volatile __u64 *)&e->until;
	(void)*(volatile __u64 *)&e->bits.cost;

	// In this order, so that a report of this moment is not in the future. One in the future is of another clock: a process in a
	// time namespace.
	__u64 alive = *(volatile __u64 *)&c->alive, now = bpf_ktime_get_ns();
	if (now - alive > STALE_AFTER)
		return up_for(STALE);
	if (!same(&e->key, &k.ends) || (ipv6 && !same_prefixes(&wide->key, &k.prefixes)))
		return up(); // none of ours
	if (!usable(e, now))
		return up_for(ENDED);
	// A packet that did not come from where packets to its sender go may be forged: the stack of this machine decides. Neither
	// must packets be relayed that are for a machine beside this one.
	if (skb->ifindex != e->from || skb->pkt_type != PACKET_HOST || skb->vlan_present)
		return up_for(INTERFACE);
	if (fragment)
		return up_for(FRAGMENT);
	if (skb->gso_segs > 1 || skb->gso_size)
		return up_for(OFFLOADED);
	__u32 length = bpf_ntohs(udp_length);
	if (length < sizeof(*udp) || length + ip_length != total || total + ETH_HLEN > skb->len)
		return up_for(LENGTH);
	if (!check || partial(&k, udp_length, check, ipv6))
		return up_for(CHECKSUM);
	if (hops <= 1)
		return up_for(HOPS);

	// From here on it is known that netfilter does not rewrite the packets of this sender: they would not have an entry's key.
	if (!e->seen) {
		struct entry *reverse = numbered(e->reverse);
		if (reverse)
			reverse->proven = 1;
		e->seen = 1;
	}

	struct entry *last = e; // whose out leaves
	int from_client = k.ends.channel != 0;
	__u32 payload, padding = 0; // bytes
	if (from_client) {
		payload = bpf_ntohs(declared);
		if (payload + CHANNEL_HEADER + sizeof(*udp) > length)
			return up_for(LENGTH);
		padding = length - sizeof(*udp) - CHANNEL_HEADER - payload;
		if (padding > 3)
			return up_for(LENGTH);
	} else {
		payload = length - sizeof(*udp);
	}
	__u64 bits = (payload + ip_length + sizeof(*udp)) * 8;
	if (!has_room(&e->bits, bits, now) || !has_room(&e->packets, 1, now))
		return up_for(LIMIT);
	int change = from_client ? -CHANNEL_HEADER : CHANNEL_HEADER;
	if (from_client && e->flags & LOCAL) {
		last = partner(e, c, ipv6);
		if (!last)
			return up_for(PARTNER);
		if (ipv6) {
			last_wide = widened(last->number);
			if (!last_wide)
				return up_for(PARTNER);
		}
		if (!same(&last->key, &e->out) || (ipv6 && !same_prefixes(&last_wide->key, &wide->out)) || !usable(last, now) || !(last->flags & LOCAL))
			return up_for(PARTNER);
		if (!has_room(&last->bits, bits, now) || !has_room(&last->packets, 1, now))
			return up_for(LIMIT);
		change = 0;
	}
	if (!last->proven)
		return up_for(UNPROVEN);
	__u32 new_length = length - padding + change; // of the UDP datagram
	if (new_length + ip_length > last->mtu || !fits(skb, last->to, new_length + ip_length))
		return up_for(MTU);
	if (padding && !zero(skb, at_data + CHANNEL_HEADER + payload, padding))
		return up_for(LENGTH);

	// The checksum by its difference, RFC 1624. All that changes is at even offsets.
	__be16 new_udp_length = bpf_htons(new_length), new_channel = last->out.channel, new_declared = bpf_htons(payload);
	__u32 readdressed = readdress(&k.ends, &last->out);
	if (ipv6)
		readdressed += readdress_prefixes(&k.prefixes, &last_wide->out);
	__u32 sum = (__u16)~check + readdressed;
	sum = subtract(subtract(sum, source_port), destination_port);
	sum = add(add(sum, last->out.source_port), last->out.destination_port);
	sum = subtract(subtract(sum, udp_length), udp_length); // in the header, and in the pseudo-header
	sum = add(add(sum, new_udp_length), new_udp_length);
	if (from_client)
		sum = subtract(subtract(sum, channel), declared);
	if (new_channel)
		sum = add(add(sum, new_channel), new_declared);
	__u16 new_check = ~fold(sum);
	if (!new_check)
		new_check = 0xffff;

	// Padding, and what fills a short frame, is cut off. Memory for that is allocated before anything changes.
	__u32 frame = ETH_HLEN + ip_length + new_length;
	if (skb->len > frame - change && bpf_skb_pull_data(skb, skb->len))
		return up_for(FAILED);
	if (change && bpf_skb_adjust_room(skb, change, BPF_ADJ_ROOM_NET, 0))
		return up_for(FAILED);
	if (skb->len > frame && bpf_skb_change_tail(skb, frame, 0))
		goto broken;
	data = (void *)(long)skb->data;
	end = (void *)(long)skb->data_end;
	if (data + at_data > end)
		goto broken;
	// Network interfaces may have summed up the whole packet. The kernel keeps that sum right while it moves bytes, but not when
	// they are written directly. IPv4 headers do not change it, because of their own checksum.
	__u32 written = 0;
	if (ipv6) {
		struct ipv6hdr *ip = data + ETH_HLEN;
		__be16 *ip_words = data + ETH_HLEN;
		written = readdressed;
#pragma unroll
		for (int i = 0; i < 4; i++)
			written = subtract(written, ip_words[i]);
		ip->payload_len = new_udp_length;
		ip->hop_limit = hops - 1;
		ip->flow_lbl[0] &= 0xf0; // RFC 8656 section 15: of another flow. The rest of the byte is the traffic class
		ip->flow_lbl[1] = ip->flow_lbl[2] = 0;
		__builtin_memcpy(&ip->saddr, last_wide->out.source, 12);
		__builtin_memcpy(&ip->daddr, last_wide->out.destination, 12);
		ip->saddr.s6_addr32[3] = last->out.source;
		ip->daddr.s6_addr32[3] = last->out.destination;
#pragma unroll
		for (int i = 0; i < 4; i++)
			written = add(written, ip_words[i]);
	} else {
		struct iphdr *ip = data + ETH_HLEN;
		__be16 *hops_protocol = (__be16 *)&ip->ttl, new_total = bpf_htons(new_length + ip_length);
		__u32 header_sum = (__u16)~ip->check;
		header_sum = subtract_long(subtract_long(header_sum, ip->saddr), ip->daddr);
		header_sum = subtract(subtract(header_sum, ip->tot_len), *hops_protocol);
		ip->tot_len = new_total;
		ip->ttl = hops - 1;
		ip->saddr = last->out.source;
		ip->daddr = last->out.destination;
		header_sum = add_long(add_long(header_sum, ip->saddr), ip->daddr);
		header_sum = add(add(header_sum, ip->tot_len), *hops_protocol);
		ip->check = ~fold(header_sum);
	}
	// bpf_skb_adjust_room has removed or inserted four bytes after the IP header.
	udp = data + at_udp;
	__be16 *udp_words = data + at_udp;
#pragma unroll
	for (int i = 0; i < 4; i++)
		written = subtract(written, udp_words[i]);
	udp->source = last->out.source_port;
	udp->dest = last->out.destination_port;
	udp->len = new_udp_length;
	udp->check = new_check;
#pragma unroll
	for (int i = 0; i < 4; i++)
		written = add(written, udp_words[i]);
	if (new_channel) {
		if (data + at_data + CHANNEL_HEADER > end)
			goto broken;
		header = data + at_data;
		written = subtract(subtract(written, header[0]), header[1]);
		header[0] = new_channel;
		header[1] = new_declared;
		written = add(add(written, new_channel), new_declared);
	}
	bpf_csum_update(skb, written); // an error means that there is no such sum

	count(e, bits, payload, now);
	if (!change) // there are two
		count(last, bits, payload, now);
	return bpf_redirect_neigh(last->to, 0, 0, 0);

broken: // half rewritten: nobody must get it
	up_for(FAILED);
	return TC_ACT_SHOT;
}

static __noinline int relay_ipv4(struct __sk_buff *skb)
{
	return relay(skb, 0);
}

static __noinline int relay_ipv6(struct __sk_buff *skb)
{
	return relay(skb, 1);
}

SEC("tc")
int mailturn_relay(struct __sk_buff *skb)
{
	int result;

	switch (skb->protocol) {
	case bpf_htons(ETH_P_IP):
		result = relay_ipv4(skb);
		return result == ICMP ? too_big_ipv4(skb) : result;
	case bpf_htons(ETH_P_IPV6):
		result = relay_ipv6(skb);
		return result == ICMP ? too_big_ipv6(skb) : result;
	}
	return up();
}

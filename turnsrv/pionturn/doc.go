// Package pionturn runs the TURN server of github.com/pion/turn/v4, unmodified, with the parts of this project that fit it:
//
//   - credentials of package credential, with their expiry, several secrets and static users (AuthHandler);
//   - a policy of peers of package peer, asked for each permission and again for each packet (PermissionHandler, and the
//     sockets of relayed addresses);
//   - relayed addresses of package relay: an address to bind and another one to advertise, and a range of ports
//     (RelayAddressGenerator);
//   - quotas of allocations per user, per source address and in total (QuotaHandler);
//   - a framing of TCP and TLS connections that survives what strangers send, with limits on connections and time.
//
// A program that requires nothing else of pion calls New, and then ServePacket or ServeStream for each socket. A program with its
// own turn.ServerConfig starts from Server.ServerConfig and adds Server.PacketConnConfig and Server.ListenerConfig.
//
// How pion processes a message is not changed. UnmetRows lists the rows of this project's conformance table that do not hold for
// it. One of them is a panic (T03), so a program that must survive a crash of its TURN server should run this package in a separate
// process, as mailturn does.
package pionturn

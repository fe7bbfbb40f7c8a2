// Package rough keeps calls of several WebRTC stacks up over mailturn for a long time, on networks that lose packets, translate
// addresses, block UDP, have small packets or change the clients' addresses, while the relay restarts and credentials expire.
// It is a module of its own, so that pion/webrtc does not become a dependency of mailturn.
package rough

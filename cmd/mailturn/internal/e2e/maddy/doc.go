// Package maddy pins the maddy that an end-to-end test builds and runs. It is a module of its own, so that nothing of maddy becomes
// a dependency of mailturn. Its replace directives are those of maddy's own go.mod, which do not count where maddy is required.
package maddy

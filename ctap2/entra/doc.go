// Package entra gives security keys to users of Microsoft Entra ID and takes
// them back, through Microsoft Graph, and says whether a key will do for that.
//
//	client := &entra.Client{Token: token} // a function that returns an access token
//	results := client.Provision(ctx, &entra.Provisioning{
//		Assignments: []entra.Assignment{{User: "ada@contoso.com", DisplayName: "blue key"}},
//		Key:         openNextKey, // asks for it to be plugged in
//	})
//	for _, r := range results {
//		fmt.Println(r)
//	}
//
// # Will the key do?
//
// [Compatible] compares what a key says of itself with what Entra and Windows
// demand, rule by rule, with the evidence:
//
//	report := entra.Compatible(key.Info())
//	err := report.ProbeAccounts(ctx, key) // two touches; what keys do not say
//	fmt.Println(report, report.Err())
//
// # What was done, and what was not
//
// A registration has two sides, the key and Entra, and can fail between them.
// Each [Result] has a [State] that says what each side has now, and an error that
// says why it went no further. What Entra refuses is deleted from the key again,
// if the program does not object (Provisioning.Discard). A request whose answer
// was lost is looked into: Entra is asked whether it knows the credential. Where
// that cannot be found out either, the State is RegistrationUnknown, and nothing
// is deleted.
//
// [Client.Deprovision] goes the other way: Entra first, so that nobody signs in
// any more, then the key.
//
// # Step by step
//
// A program with a flow of its own uses the steps alone:
//
//	options, err := client.CreationOptions(ctx, user)
//	registration, err := options.Create(ctx, key) // waits for a touch
//	registration.DisplayName = "blue key"
//	method, err := client.Register(ctx, user, registration)
//
// Without a Client, ParseOptions reads Graph's answer, and the JSON of a
// [Registration] is what Graph wants.
//
// # When a user's name changes
//
// The key shows the name that the account had when it was registered.
// [RenameAccount] changes it on the key, and checks that the credential works as
// before. Entra knows the account by an ID that stays; Microsoft documents no such
// use of it, and advises to register the key anew.
//
// # Versions of Graph
//
// Version 1.0 gives five minutes from the options to the registration, and takes
// registrations only if users may set up keys themselves, by the tenant's policy.
// The beta gives up to 30 days (Client.BaseURL, Client.ChallengeTimeout).
// Microsoft does not support it for production.
//
// # Secrets
//
// Errors hold neither the access token nor challenges nor credentials; what Graph
// says in its own errors is cut where it may be one. They hold the names that the
// program gave: users, and keys.
package entra

"""Who somebody is: people, sessions, tickets, and the checks at the door."""

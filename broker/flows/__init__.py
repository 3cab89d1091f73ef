"""The journeys: what happens when somebody signs in, forgets a password, leaves. Core only: no Flask, SQL, YAML."""

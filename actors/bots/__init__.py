"""The bots as a guest of the actors: `guest` brings their director, `thinking` what it
needs beside its machine. No other module of the actors may know of them."""

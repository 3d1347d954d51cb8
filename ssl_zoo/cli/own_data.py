def chosen(words, choices):
    return words

// The browser's voice; only voices that speak on this machine are used, as others send the words away.

class Voice {
  on = $state(false);
  #voices = $state.raw<readonly SpeechSynthesisVoice[]>([]);

  /** Look for voices until the function that comes back is called. */
  start(): () => void {
    if (!("speechSynthesis" in window)) return () => undefined;
    const look = () => (this.#voices = speechSynthesis.getVoices().filter((voice) => voice.localService));
    look();
    speechSynthesis.addEventListener("voiceschanged", look);
    return () => {
      speechSynthesis.removeEventListener("voiceschanged", look);
      speechSynthesis.cancel();
    };
  }

  /** Whether there is a voice for a language such as `de`. */
  speaks(language: string): boolean {
    return this.#find(language) !== undefined;
  }

  say(text: string, language: string): void {
    const voice = this.#find(language);
    if (!this.on || !voice) return;
    speechSynthesis.cancel();
    const utterance = new SpeechSynthesisUtterance(text);
    utterance.voice = voice;
    utterance.lang = voice.lang;
    speechSynthesis.speak(utterance);
  }

  #find(language: string): SpeechSynthesisVoice | undefined {
    return this.#voices.find((voice) => voice.lang.toLowerCase().startsWith(language));
  }
}

export const voice = new Voice();
